/* SPDX-License-Identifier: MIT */
/*
 * Packets of TCP connections held back: dropped, both ways, as if the net had lost them.
 *
 * A table of nf_tables of our own, made by netlink, with no help of a firewall program. It names
 * the connections alone; whatever else travels is not touched. The other side sends again what it
 * has no answer to, and nothing but silence tells it that anything happened.
 *
 *	table inet CRIU-<run id of the dump>, or that name with "-hold"
 *		in4, in6	the sets of (their address, port, our address, port)
 *		out4, out6	the sets of (our address, port, their address, port)
 *		input		chain: drops what is in in4, in6
 *		output		chain: drops what is in out4, out6
 *
 * The name is the one under which CRIU looks for it, so that either restores what the other dumped.
 * Nothing of this needs more than CAP_NET_ADMIN in the net namespace. One thread.
 */
#ifndef TARGET_NETLOCK_H
#define TARGET_NETLOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "src/image/model.h"

enum { NETLOCK_NAME_MAX = 64 };

/* The table of the image that @m is of; "" when it says that nothing was held. */
void netlock_name(const struct model *m, char ret[NETLOCK_NAME_MAX]);

/*
 * Holds @n connections as long as the descriptor that is returned is open: the kernel takes the
 * table away with it, whatever becomes of us (Linux 5.12). -errno with @err.
 */
int netlock_hold(const struct model *m, const struct m_inet *const *conns, uint32_t n,
		 struct err *err);
/* Holds them until netlock_release(), by whomever. */
int netlock_keep(const struct model *m, const struct m_inet *const *conns, uint32_t n,
		 struct err *err);
/* Lets them go; that there is no such table is no error. */
int netlock_release(const struct model *m, struct err *err);

/* 0, or -errno: why not. Leaves nothing behind. */
int netlock_probe(void);

#endif
