"""The parts that both HTTP APIs share: how requests are read, refused, answered and listed."""
