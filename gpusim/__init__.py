"""gpusim: what latency will each token see?"""
