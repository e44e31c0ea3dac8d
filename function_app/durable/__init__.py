"""What both sides' orchestrations are written in."""
