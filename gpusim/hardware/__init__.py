"""The machine as SimPy components: memory channels, links, fabric, GPUs, hosts. No LLM word here."""
