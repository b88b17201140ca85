"""Past one machine: a capacity model, and what happens when very many clients lose their connection at once."""
