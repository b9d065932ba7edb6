"""How much each layer, attention and MLP matters."""
