/* SPDX-License-Identifier: MIT */
/*
 * Multicast groups that a socket is in.
 *
 * The kernel has no list of them for a socket, but one for each interface, and tells of a socket
 * and a group what sources it takes.
 */
#include <inttypes.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "src/target/procfs.h"
#include "src/target/sockets.h"

struct group {
	unsigned ifindex;
	uint32_t len; /* of the address */
	uint8_t addr[16];
	char ifname[32];
};

enum { NOT_IN, IN, WITH_SOURCES };

static int asked(int sk, const struct group *g)
{
	struct group_filter f = {.gf_interface = g->ifindex};
	socklen_t len = GROUP_FILTER_SIZE(0);

	if (g->len == 4) {
		struct sockaddr_in *in = (struct sockaddr_in *)&f.gf_group;

		in->sin_family = AF_INET;
		memcpy(&in->sin_addr, g->addr, 4);
	} else {
		struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&f.gf_group;

		in6->sin6_family = AF_INET6;
		memcpy(&in6->sin6_addr, g->addr, 16);
	}
	if (getsockopt(sk, g->len == 4 ? SOL_IP : SOL_IPV6, MCAST_MSFILTER, &f, &len) < 0)
		return NOT_IN;
	return f.gf_fmode == MCAST_EXCLUDE && !f.gf_numsrc ? IN : WITH_SOURCES;
}

static int keep(struct files *f, uint32_t pid, uint32_t fd, int sk, const struct group *g,
		struct m_inet *i)
{
	struct m_sk_group *to;
	int state = asked(sk, g);

	if (state == WITH_SOURCES)
		return finding_fatal(f->m, pid,
				     "fd %u: socket in a multicast group on %s with a list of "
				     "sources: not supported",
				     fd, g->ifname);
	if (state == NOT_IN)
		return 0;
	to = model_push(f->m, &i->groups, &i->ngroups, sizeof(*to));
	if (!to)
		return -ENOMEM;
	to->len = g->len;
	memcpy(to->addr, g->addr, sizeof(to->addr));
	to->ifname = model_strdup(f->m, g->ifname);
	return to->ifname ? 0 : -ENOMEM;
}

/* "2<tab>eth0      :     1      V3", then for each group "<tab><tab><tab><tab>010000E0     1 ..."
 */
static bool take_v4(const char *line, struct group *g)
{
	uint32_t addr;

	if (*line != '\t') {
		if (sscanf(line, "%u %31s", &g->ifindex, g->ifname) != 2)
			g->ifindex = 0;
		return false;
	}
	g->len = 4;
	if (!g->ifindex || sscanf(line, " %8" SCNx32, &addr) != 1)
		return false;
	memcpy(g->addr, &addr, 4);
	return true;
}

/* "1    lo              ff020000000000000000000000000001     1 0000000C 0" */
static bool take_v6(const char *line, struct group *g)
{
	char text[33];

	g->len = 16;
	if (sscanf(line, "%u %31s %32[0-9a-f]", &g->ifindex, g->ifname, text) != 3 ||
	    strlen(text) != 32)
		return false;
	for (unsigned i = 0; i < 16; i++)
		if (sscanf(text + 2 * (size_t)i, "%2" SCNx8, &g->addr[i]) != 1)
			return false;
	return true;
}

static int read_list(struct files *f, uint32_t pid, uint32_t fd, int sk, bool v6, struct m_inet *i)
{
	char buf[8192], *line;
	struct procfs_lines lines;
	struct group g = {0};
	int ret = 0;

	/* A kernel without IPv6 has no such file. */
	if (procfs_lines_open(&lines, buf, sizeof(buf), "/proc/net/%s", v6 ? "igmp6" : "igmp") < 0)
		return 0;
	while (ret >= 0 && (line = procfs_lines_next(&lines)))
		if (v6 ? take_v6(line, &g) : take_v4(line, &g))
			ret = keep(f, pid, fd, sk, &g, i);
	procfs_lines_close(&lines);
	return ret < 0 ? ret : 0;
}

int sk_groups_read(struct files *f, uint32_t pid, uint32_t fd, int sk, struct m_inet *i)
{
	int ret = read_list(f, pid, fd, sk, false, i);

	return ret == 0 && i->family == AF_INET6 ? read_list(f, pid, fd, sk, true, i) : ret;
}
