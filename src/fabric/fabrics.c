/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fabrics.c - the fabrics of this library.
 */
#include "fabric/table.h"

const struct kvi_fabric *const kvi_fabrics[] = { &kvi_local_fabric, &kvi_ofi_fabric, NULL };
