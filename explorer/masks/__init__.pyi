from .mask import NONE as NONE, PARTS as PARTS, Mask as Mask, Part as Part, Site as Site
from .units import find_units as find_units, join as join
