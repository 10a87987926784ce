"""The operators' pages (Streamlit); they talk to SQL and MQTT only and never import torch or edge."""
