"""Both ends of the serial links: wire codecs, ports with reconnect, drivers, firmware."""
