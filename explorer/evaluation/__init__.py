"""What a mask costs: negative log-likelihood, divergence, text, decode speed."""
