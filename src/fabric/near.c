/* SPDX-License-Identifier: Apache-2.0 */
/*
 * near.c - which CPUs and which memory are near a NIC. Pinning threads is base/thread's.
 */
#include <hwloc.h>
#include <string.h>

#include "fabric/internal.h"

static hwloc_obj_t find_device(hwloc_topology_t topology, const struct kvi_interface *interface)
{
	hwloc_obj_t device = NULL;
	while ((device = hwloc_get_next_osdev(topology, device)) != NULL) {
		if (device->name == NULL)
			continue;
		if (strcmp(device->name, interface->netdev) == 0 ||
		    (interface->rdma[0] != '\0' && strcmp(device->name, interface->rdma) == 0))
			return device;
	}
	return NULL;
}

/* The place of the machine that the rail's device hangs on; NULL when that is unknown. */
static hwloc_obj_t find_place(hwloc_topology_t topology, const struct kvi_rail *rail)
{
	if (hwloc_topology_set_io_types_filter(topology, HWLOC_TYPE_FILTER_KEEP_IMPORTANT) != 0 ||
	    hwloc_topology_load(topology) != 0)
		return NULL;
	hwloc_obj_t device = find_device(topology, &rail->interface);
	return device == NULL ? NULL : hwloc_get_non_io_ancestor_obj(topology, device);
}

size_t kvi_rail_get_near_cpus(const struct kvi_rail *rail, unsigned *cpus, size_t max)
{
	size_t count = 0;
	hwloc_topology_t topology;
	if (hwloc_topology_init(&topology) != 0)
		return 0;
	hwloc_obj_t place = find_place(topology, rail);
	hwloc_bitmap_t allowed = hwloc_bitmap_alloc();
	hwloc_bitmap_t near = hwloc_bitmap_alloc();
	if (place == NULL || allowed == NULL || near == NULL ||
	    hwloc_get_cpubind(topology, allowed, HWLOC_CPUBIND_PROCESS) != 0)
		goto destroy_topology;

	hwloc_bitmap_and(near, place->cpuset, allowed);
	if (hwloc_bitmap_isequal(near, allowed))
		goto destroy_topology;
	for (int cpu = hwloc_bitmap_first(near); cpu >= 0 && count < max;
	     cpu = hwloc_bitmap_next(near, cpu))
		cpus[count++] = (unsigned)cpu;

destroy_topology:
	hwloc_bitmap_free(near);
	hwloc_bitmap_free(allowed);
	hwloc_topology_destroy(topology);
	return count;
}

void kvi_rail_bind_near(const struct kvi_rail *rail, void *base, size_t len)
{
	hwloc_topology_t topology;
	if (hwloc_topology_init(&topology) != 0)
		return;
	hwloc_obj_t place = find_place(topology, rail);
	if (place != NULL && hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_NUMANODE) > 1)
		hwloc_set_area_membind(topology, base, len, place->nodeset, HWLOC_MEMBIND_BIND,
				       HWLOC_MEMBIND_BYNODESET);
	hwloc_topology_destroy(topology);
}
