from .routes import make_routes as make_routes
from .taking_up import take_up as take_up
