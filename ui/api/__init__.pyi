from .routes import make_routes as make_routes
