"""What both HTTP APIs have in common: how requests are refused, answered and listed."""
