# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``python3 -m lunshift_lab``: what the command ``lab`` runs."""

import signal
import sys

from .cli import main

# Its output goes through pipes like head.
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
sys.exit(main())
