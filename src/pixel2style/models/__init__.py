"""pSp and the networks it is built of."""
