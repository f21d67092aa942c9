"""The unprivileged side: decides what each network needs, and asks for it."""
