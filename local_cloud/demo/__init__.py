"""The demo: real artifacts cross a simulated air gap, then it is shown what is refused."""
