"""One module for each page; each has one function `page`.

The folder is not called `pages`: Streamlit takes a folder of that name beside its script for its own, and a first
visitor with a deep link would get an empty page.
"""
