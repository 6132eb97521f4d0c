"""One file per command of `spanledger`; `options` is what they share."""
