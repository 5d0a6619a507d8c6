# SPDX-License-Identifier: Apache-2.0
"""KVM: in-kernel interrupt controllers and PIT, irqfd, ioeventfd, vCPU threads that sit in C."""
