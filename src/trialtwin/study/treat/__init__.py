"""Virtual patients treated with candidate drugs: who gains, how sure that is, at what risk, and by which pathway."""
