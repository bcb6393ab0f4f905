/* SPDX-License-Identifier: MIT */
/*
 * Sockets and terminals of a tree that stands still, for the files of this folder that read them.
 *
 * What is asked through a duplicate of the descriptor and changes nothing comes first, while the
 * descriptors are listed (socket_look(), tty_look()); what needs all of the tree, peers and queues,
 * comes last (sockets_finish()). Nothing is taken out of a queue and nothing is sent. One thread.
 */
#ifndef TARGET_SOCKETS_H
#define TARGET_SOCKETS_H

#include "src/target/files.h"

/* What sock_diag says of a unix socket. */
struct unix_diag {
	uint32_t type, state, peer, rqueue, wqueue, path_ino, shutdown;
	uint32_t name_len, npending;
	uint8_t name[108];
	uint32_t pending[512]; /* inodes of sockets that wait to be accepted; 0: gone again */
};

/* -ENOENT when there is none, or the kernel cannot tell (CONFIG_UNIX_DIAG). */
int unix_diag_get(struct files *f, uint32_t ino, struct unix_diag *ret);

/* @dup, ours, is descriptor @fd of @at. Fills what @file has for a socket. */
int socket_look(struct files *f, const struct proc_at *at, uint32_t fd, int dup,
		struct m_file *file, struct err *err);
/* All of the tree has been seen. */
int sockets_finish(struct files *f, struct err *err);
void sockets_deinit(struct files *f);

/* sk_opts.c */
int sk_opts_read(struct files *f, const struct proc_at *at, uint32_t fd, int dup,
		 struct m_sk_opts *ret, struct err *err);
int sk_int(int sk, int level, int name);
/* sk_groups.c */
int sk_groups_read(struct files *f, uint32_t pid, uint32_t fd, int sk, struct m_inet *i);
/* sk_more.c */
int sk_more_read(struct files *f, int sk, struct m_sk_opts *ret);
/* One that waits for the program; asking with SO_ERROR would take it. */
bool sk_has_error(int sk);
int sk_error_finding(struct files *f, uint32_t pid, uint32_t fd, int dup, struct err *err);

/* By family; @dup is ours. */
int unix_look(struct files *f, const struct proc_at *at, uint32_t fd, int dup, struct m_file *file,
	      struct err *err);
int unix_finish(struct files *f, const struct m_proc *p, uint32_t fd, uint32_t id, struct err *err);
int inet_look(struct files *f, const struct proc_at *at, uint32_t fd, int dup, struct m_file *file,
	      struct err *err);
void inet_read_state(int sk, struct m_inet *i, bool has_peer);
/* "[::1]:80" */
const char *inet_printed(const struct m_inet *i, bool dst, char ret[64]);

/* inet_conn.c, in this order: each for all sockets before the next one. */
int inet_sent(struct files *f, const struct m_proc *p, uint32_t fd, uint32_t id, int dup,
	      struct err *err);
int inet_finish(struct files *f, const struct m_proc *p, uint32_t fd, uint32_t id, int dup,
		struct err *err);
void inet_settle(struct files *f);
/* Packets of it must be held back when it is read. */
bool inet_held(const struct files *f, const struct m_inet *i);

int netlink_look(struct files *f, const struct proc_at *at, uint32_t fd, int dup,
		 struct m_file *file, struct err *err);
int packet_look(struct files *f, const struct proc_at *at, uint32_t fd, int dup,
		struct m_file *file, struct err *err);

#define INET_NOT_KNOWN "internet socket of a protocol other than TCP and UDP"

bool inet_are_peers(const struct m_inet *a, const struct m_inet *b);
/*
 * The finding of a connection whose other end is in the tree, or not (@inside), if it is in the way
 * of a restore.
 */
int inet_connection(struct files *f, const struct m_proc *p, uint32_t fd, const struct m_inet *i,
		    bool inside, struct err *err);

/*
 * holders.c: @key is the inode of a socket, or holders_master() of a terminal. Whether a process
 * outside of the tree has it open, with " of pid 7 (sshd)"; @nobody: what to believe of one that
 * nobody has whom we can see.
 */
enum { HOLDER_TEXT = 48 };
bool holders_outside(struct files *f, uint64_t key, bool nobody, char ret_text[HOLDER_TEXT]);
uint64_t holders_master(uint32_t index);
/* "tty-index:" of a master's fdinfo, Linux 4.14. */
bool holders_tty_index(const char *fdinfo, uint32_t *ret);
/* "scm_fds:" of a unix socket's: how many descriptors its queue holds, Linux 5.9. */
uint64_t holders_in_flight(const char *fdinfo);

/* tcp_list.c: TCP connections of a tree that runs. */
int tcp_list_findings(struct files *f, struct err *err);

/*
 * tcp.c: fills @i->tcp with what the connection @sk has sent, and with what it has got, then with
 * all else; the state of @i is of the same moment as the latter. It goes on as it was. -errno.
 */
int tcp_read_sent(struct files *f, int sk, struct m_inet *i);
/* TCP_URGENT: has read nothing, for there is a mark of urgent data in the queue. */
enum { TCP_URGENT = 1 };
int tcp_read_got(struct files *f, int sk, struct m_inet *i);
/* inet_diag.c: bytes that have come and were not read, whatever is among them. */
int inet_diag_received(const struct m_inet *i, uint32_t *ret);
/* From now on the connection @sk works no more, and closing it tells the other side nothing. */
int tcp_silence(int sk);

/* hold.c, whose other half is in collect.h */
int hold_begin(struct files *f, struct err *err);
void hold_deinit(struct files *f);

/* sk_queue.c: what @dup, socket @id of @pid, has received and nobody has read. */
int sk_queue_read(struct files *f, uint32_t pid, uint32_t fd, uint32_t id, int dup,
		  struct err *err);

/* fds.c: the file that @own, a descriptor of ours, refers to; it is closed, or kept for later. */
int files_passed(struct files *f, uint32_t pid, int own, uint32_t *ret_id, struct err *err);

/* ttys.c */
int tty_look(struct files *f, const struct proc_at *at, uint32_t fd, int dup, struct m_file *file,
	     struct err *err);
int tty_finish(struct files *f, const struct m_proc *p, uint32_t fd, uint32_t id, struct err *err);
/* Controlling terminals, when all else is known. */
int ttys_finish(struct files *f, struct err *err);

#endif
