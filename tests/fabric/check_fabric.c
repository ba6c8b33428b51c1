/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_fabric.c - the conformance tests of fabric.h on libfabric. KVT_TEST_PROVIDER and
 * KVT_TEST_INTERFACE choose what is tested.
 */
#include "bed.h"

int main(void)
{
	return run_conformance("tcp", "lo", NULL);
}
