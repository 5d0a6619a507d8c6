# SPDX-License-Identifier: Apache-2.0
"""Traces that ``qdevpy boot --trace`` wrote, read again."""
