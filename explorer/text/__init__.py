"""A text's name -> token windows."""
