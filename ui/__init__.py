"""The dashboard: a room for each page, and those that all pages share. Streamlit lives here and in pages/.

What several threads use is imported here, whole, before any of them can go on: the scripts of sessions, each a thread,
and the worker. A module that one thread imports is there in part for another that only looks whether it is loaded, as
plotly and Streamlit look for pandas.
"""

import numpy
import pandas
import PIL.Image
import plotly.graph_objects
import plotly.io
import pyarrow
import transformers

__all__ = ["PIL", "numpy", "pandas", "plotly", "pyarrow", "transformers"]
