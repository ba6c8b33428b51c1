/* SPDX-License-Identifier: Apache-2.0 */
/*
 * near.c - which CPUs and which memory are near a NIC. Pinning threads is base/thread's.
 */
#include <hwloc.h>
#include <string.h>

#include "fabric/internal.h"

static hwloc_obj_t find_pci_device(hwloc_topology_t topology, const struct kvi_interface *interface)
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

/* The machine as hwloc sees it, with the rail's device; NULL when hwloc cannot tell. Loading takes
 * some 10 ms, so it is done once a rail. */
static hwloc_topology_t get_topology(struct kvi_ofi_rail *rail)
{
	pthread_mutex_lock(&rail->mutex);
	if (rail->topology == NULL && hwloc_topology_init(&rail->topology) == 0 &&
	    (hwloc_topology_set_io_types_filter(rail->topology, HWLOC_TYPE_FILTER_KEEP_IMPORTANT) !=
		     0 ||
	     hwloc_topology_load(rail->topology) != 0)) {
		hwloc_topology_destroy(rail->topology);
		rail->topology = NULL;
	}
	hwloc_topology_t topology = rail->topology;
	pthread_mutex_unlock(&rail->mutex);
	return topology;
}

void kvi_rail_forget_topology(struct kvi_ofi_rail *rail)
{
	if (rail->topology != NULL)
		hwloc_topology_destroy(rail->topology);
}

/* The object of the topology that the rail's device is attached to; NULL when that is unknown. */
static hwloc_obj_t find_place(hwloc_topology_t topology, const struct kvi_ofi_rail *rail)
{
	hwloc_obj_t device = topology == NULL ? NULL : find_pci_device(topology, &rail->interface);
	return device == NULL ? NULL : hwloc_get_non_io_ancestor_obj(topology, device);
}

size_t kvi_ofi_rail_get_near_cpus(struct kvi_rail *base, unsigned *cpus, size_t max)
{
	struct kvi_ofi_rail *rail = kvi_ofi_rail(base);
	size_t count = 0;
	hwloc_topology_t topology = get_topology(rail);
	hwloc_obj_t place = find_place(topology, rail);
	hwloc_bitmap_t allowed = hwloc_bitmap_alloc();
	hwloc_bitmap_t near = hwloc_bitmap_alloc();
	if (place == NULL || allowed == NULL || near == NULL ||
	    hwloc_get_cpubind(topology, allowed, HWLOC_CPUBIND_PROCESS) != 0)
		goto free_bitmaps;

	hwloc_bitmap_and(near, place->cpuset, allowed);
	if (hwloc_bitmap_isequal(near, allowed))
		goto free_bitmaps;
	for (int cpu = hwloc_bitmap_first(near); cpu >= 0 && count < max;
	     cpu = hwloc_bitmap_next(near, cpu))
		cpus[count++] = (unsigned)cpu;

free_bitmaps:
	hwloc_bitmap_free(near);
	hwloc_bitmap_free(allowed);
	return count;
}

void kvi_ofi_rail_bind_near(struct kvi_rail *rail_base, void *base, size_t len)
{
	struct kvi_ofi_rail *rail = kvi_ofi_rail(rail_base);
	hwloc_topology_t topology = get_topology(rail);
	hwloc_obj_t place = find_place(topology, rail);
	if (place != NULL && hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_NUMANODE) > 1)
		hwloc_set_area_membind(topology, base, len, place->nodeset, HWLOC_MEMBIND_BIND,
				       HWLOC_MEMBIND_BYNODESET);
}
