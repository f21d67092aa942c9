"""The unprivileged side: decides what each network needs, and asks for it."""

import warnings

# oslo.privsep and ovs load eventlet where it is installed (Debian's package
# of the former needs it), to see whether it is in use. From 0.39 on it says
# that it is deprecated, on the stderr of every command of ours.
warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")
