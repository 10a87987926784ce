"""The operators' pages (Streamlit). They talk to SQL and to nothing else, and never import torch or edge.

What the worker says of itself stands in `stations.status`, renewed each second; what an operator asks for is a row in
`commands`, which works while the broker is down. Killing the pages changes no verdict.
"""
