from .likelihoods import find_likelihoods as find_likelihoods
from .request import Item as Item, Likelihood as Likelihood, Request as Request, RequestEncoder as RequestEncoder
