"""What `streamlit run` serves: the pages of app.py behind the login of doors.py, in one process.

Streamlit looks for the name `app` in this file and hands it to its own server, with all settings of the command line.
"""

from pathlib import Path

from starlette.middleware import Middleware
from streamlit.starlette import App

from dashboard.context import configuration
from dashboard.doors import Doors, routes

app = App(
    Path(__file__).with_name("app.py"),
    routes=routes(configuration),
    middleware=[Middleware(Doors, configuration=configuration)],
)
