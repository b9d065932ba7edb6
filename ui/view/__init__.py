"""Who looks at what: the view in the URL, and what a link may have read."""
