/* SPDX-License-Identifier: MIT */
/*
 * The table of scenarios and the command line.
 *
 *	victim --list
 *	victim SCENARIO [--dir DIR] [--OPTION VALUE]...		prints "ready PID"
 *	victim --wait|--check|--quit DIR [SECONDS]		asks a running victim
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/victims/victim/registers.h"
#include "tests/victims/victim/victim.h"

static const struct scenario *const tables[] = {
	memory_scenarios, mapping_scenarios,	stack_scenarios,   register_scenarios,
	signal_scenarios, timer_scenarios,	file_scenarios,	   process_scenarios,
	storm_scenarios,  heap_scenarios,	blocked_scenarios, descriptor_scenarios,
	socket_scenarios, tty_scenarios,	queue_scenarios,   attribute_scenarios,
	area_scenarios,	  holder_scenarios,	lineage_scenarios, mutex_scenarios,
	change_scenarios, consistent_scenarios, kernel_scenarios,  cow_scenarios,
	edge_scenarios,	  key_scenarios,	cpu_scenarios,
};

static int nopts;
static char **opts, **all_args;
static char dir_path[PATH_MAX], self_path[PATH_MAX];

const char *opt_str(const char *name, const char *fallback)
{
	for (int i = 0; i + 1 < nopts; i += 2)
		if (!strncmp(opts[i], "--", 2) && !strcmp(opts[i] + 2, name))
			return opts[i + 1];
	return fallback;
}

uint64_t opt_u64(const char *name, uint64_t fallback)
{
	const char *text = opt_str(name, NULL);

	return text ? strtoull(text, NULL, 0) : fallback;
}

const char *v_dir(void)
{
	return dir_path;
}

const char *v_self(void)
{
	return self_path;
}

void v_exec_again(void)
{
	char text[32];
	char *const env[] = {text, NULL};

	snprintf(text, sizeof(text), "VICTIM_RESUMED=%u", v_resumed() + 1);
	execve(self_path, all_args, env);
	v_die("exec %s", self_path);
}

unsigned v_resumed(void)
{
	const char *text = getenv("VICTIM_RESUMED");

	return text ? (unsigned)strtoul(text, NULL, 10) : 0;
}

static const struct scenario *scenario_find(const char *name)
{
	for (size_t t = 0; t < sizeof(tables) / sizeof(tables[0]); t++)
		for (const struct scenario *s = tables[t]; s->name; s++)
			if (!strcmp(s->name, name))
				return s;
	return NULL;
}

static int list(void)
{
	for (size_t t = 0; t < sizeof(tables) / sizeof(tables[0]); t++)
		for (const struct scenario *s = tables[t]; s->name; s++)
			printf("%-12s %s\n", s->name, s->about);
	return 0;
}

int main(int argc, char **argv)
{
	const struct scenario *s;
	const char *dir;
	char tmp[] = "/tmp/victim.XXXXXX";

	if (argc == 2 && !strcmp(argv[1], "--list"))
		return list();
	/* What the exec storm runs: a program that does one thing and ends. */
	if (argc == 2 && !strcmp(argv[1], "--exec-child"))
		return 33;
	if (argc >= 3 && !strncmp(argv[1], "--", 2))
		return ctl_client(argv[1] + 2, argv[2], argc > 3 ? (unsigned)atoi(argv[3]) : 60);
	s = argc >= 2 ? scenario_find(argv[1]) : NULL;
	if (!s || argc % 2) {
		fprintf(stderr, "usage: victim SCENARIO [--dir DIR] [--OPTION VALUE]... | --list |"
				" --wait|--check|--quit DIR [SECONDS]\n");
		return 2;
	}
	nopts = argc - 2;
	opts = argv + 2;
	all_args = argv;
	dir = opt_str("dir", NULL);
	if (!dir)
		dir = mkdtemp(tmp);
	if (!dir || (mkdir(dir, 0755) && access(dir, W_OK)) || !realpath(dir, dir_path)) {
		perror("victim: directory");
		return 1;
	}
	if (readlink("/proc/self/exe", self_path, sizeof(self_path) - 1) < 0) {
		perror("victim: /proc/self/exe");
		return 1;
	}
	return ctl_run(s, dir_path);
}
