from .readout import draw_readout as draw_readout
