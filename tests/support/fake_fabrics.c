/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fake_fabrics.c - the fabrics of a test that needs no other.
 */
#include "fake_fabric.h"

const struct kvi_fabric *const kvi_fabrics[] = { &fake_fabric, NULL };
