"""What is off: sites, masks, the units that can be removed."""
