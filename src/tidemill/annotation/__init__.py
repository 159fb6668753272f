"""Which questions people are asked, in which order, and what several answers to them come to."""
