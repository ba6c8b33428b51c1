/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_fabric.c - the conformance tests of fabric.h on libfabric, and a hostile peer that uses libfabric
 * by itself. KVT_TEST_PROVIDER and KVT_TEST_INTERFACE choose what is tested.
 */
#include "hostile.h"

int main(void)
{
	return run_conformance("tcp", "lo", make_hostile_suite());
}
