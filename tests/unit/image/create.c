/* SPDX-License-Identifier: MIT */
/* A directory that exists whole or not at all: names, modes, full and read-only disks. */
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "tests/unit/image/scratch.h"
#include "tests/unit/image/small_image.h"

static unsigned entries(const char *path)
{
	DIR *d = opendir(path);
	struct dirent *e;
	unsigned n = 0;

	assert_non_null(d);
	while ((e = readdir(d)))
		n += strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
	closedir(d);
	return n;
}

static ino_t inode(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return st.st_ino;
}

static unsigned mode(const char *path)
{
	struct stat st;

	assert_int_equal(lstat(path, &st), 0);
	return st.st_mode & 07777;
}

static void tell(void *arg, const char *line)
{
	printf("%s\n", line);
}

static bool is_whole(const char *path)
{
	struct image_verify res = {0};
	struct err err = {0};

	return !image_verify(path, 1, tell, NULL, &res, &err);
}

static void make(const char *path)
{
	struct err err = {0};

	small_image(path, IMAGE_CRIU, 1, 2, &err);
	assert_no_err(&err);
}

static void refused(const char *path, enum err_class class)
{
	struct err err = {0};
	struct image *img = image_create(path, IMAGE_STASIS, &err);

	if (img)
		fail_msg("%s was not refused", path);
	if (err.class != class)
		fail_msg("%s: class %d: %s", path, (int)err.class, err.msg);
	assert_non_null(strstr(err.msg, path));
	assert_true(err.hint[0]);
}

/* --- names ---------------------------------------------------------------------------------- */

static void every_way_to_name_it(void **state)
{
	static const char *const names[] = {"x", "x/", "x///", "./x", "d/../x", "d/./../x/"};

	mkdir("d", 0700);
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		make(names[i]);
		assert_true(is_whole("x"));
		assert_int_equal(entries("."), 2);
		scratch_remove("x");
	}
	static char path[sizeof(scratch_path) + 8];

	snprintf(path, sizeof(path), "%s/x", scratch_path);
	make(path);
	assert_true(is_whole("x"));
	scratch_remove("x");
	scratch_remove("d");
}

static void long_name(void **state)
{
	char name[300];

	memset(name, 'n', sizeof(name));
	name[255] = '\0';
	make(name);
	assert_true(is_whole(name));
	scratch_remove(name);
	name[255] = 'n';
	name[256] = '\0';
	struct err err = {0};

	assert_null(image_create(name, IMAGE_STASIS, &err));
	assert_int_equal(err.errnum, ENAMETOOLONG);
	assert_int_equal(entries("."), 0);
}

static void empty_directory_is_replaced(void **state)
{
	ino_t old;

	mkdir("x", 0755);
	old = inode("x");
	make("x");
	assert_true(is_whole("x"));
	assert_true(inode("x") != old);
	assert_int_equal(mode("x"), 0700);
	scratch_remove("x");
	/* through a link: what it points to is replaced, the link stays */
	mkdir("real", 0755);
	assert_int_equal(symlink("real", "link"), 0);
	make("link");
	assert_true(is_whole("real"));
	assert_true(is_whole("link"));
	assert_int_equal(readlink("link", (char[8]){0}, 8), 4);
	scratch_remove("real");
	unlink("link");
	assert_int_equal(entries("."), 0);
}

static void working_directory_stays(void **state)
{
	ino_t old;

	mkdir("x", 0755);
	assert_int_equal(chdir("x"), 0);
	old = inode(".");
	make(".");
	assert_true(is_whole("."));
	assert_int_equal(inode("../x"), old);
	assert_int_equal(mode("."), 0700);
	refused(".", ERR_EXISTS);
	assert_int_equal(chdir(".."), 0);
	scratch_remove("x");
}

static void what_is_there_stays(void **state)
{
	make("full");
	close(open("file", O_CREAT | O_WRONLY, 0600));
	assert_int_equal(symlink("nowhere", "dangling"), 0);
	assert_int_equal(symlink("full", "tofull"), 0);
	refused("full", ERR_EXISTS);
	refused("full/", ERR_EXISTS);
	refused("tofull", ERR_EXISTS);
	refused("file", ERR_EXISTS);
	refused("dangling", ERR_EXISTS);
	refused("/", ERR_EXISTS);
	refused("nowhere/x", ERR_OTHER);
	refused("nowhere/.", ERR_OTHER);
	refused("file/x", ERR_OTHER);
	assert_true(is_whole("full"));
	assert_int_equal(entries("."), 4);
	scratch_remove("full");
	unlink("file");
	unlink("dangling");
	unlink("tofull");
	struct err err = {0};

	assert_null(image_create("", IMAGE_STASIS, &err));
	assert_int_equal(err.errnum, ENOENT);
}

/* --- modes ---------------------------------------------------------------------------------- */

static void modes_do_not_follow_umask(void **state)
{
	static const mode_t masks[] = {0, 022, 0777};

	for (unsigned i = 0; i < 3; i++) {
		mode_t old = umask(masks[i]);
		struct dirent *e;
		DIR *d;

		make("x");
		umask(old);
		assert_int_equal(mode("x"), 0700);
		d = opendir("x");
		assert_int_equal(chdir("x"), 0);
		while ((e = readdir(d)))
			if (e->d_name[0] != '.')
				assert_int_equal(mode(e->d_name), 0600);
		assert_int_equal(chdir(".."), 0);
		closedir(d);
		scratch_remove("x");
	}
}

/* --- given up and raced --------------------------------------------------------------------- */

static void not_committed_is_not_there(void **state)
{
	struct err err = {0};
	struct model *m = small_model(2);
	struct image *img = image_create("x", IMAGE_CRIU, &err);

	assert_no_err(&err);
	assert_int_equal(access("x", F_OK), -1);
	image_write_model(img, m, &err);
	small_pages(img, IMAGE_CRIU, 2, &err);
	assert_no_err(&err);
	assert_int_equal(entries("."), 1);
	image_close(img);
	assert_int_equal(entries("."), 0);

	/* in place: the directory is empty again */
	mkdir("x", 0700);
	assert_int_equal(chdir("x"), 0);
	img = image_create(".", IMAGE_CRIU, &err);
	assert_no_err(&err);
	image_write_model(img, m, &err);
	assert_no_err(&err);
	assert_in_range(entries("."), 3, 99);
	assert_int_equal(access("inventory.img", F_OK), -1);
	image_close(img);
	assert_int_equal(entries("."), 0);
	assert_int_equal(chdir(".."), 0);
	scratch_remove("x");
	model_free(m);
	image_close(NULL);
}

static int make_into(const char *path, enum image_format format, bool commit, struct err *err)
{
	struct model *m = small_model(1);
	struct image *img = image_create_into(path, format, err);
	int ret = img ? image_write_model(img, m, err) : -err->errnum;

	if (!ret)
		ret = small_pages(img, format, 2, err);
	if (!ret && commit)
		ret = image_commit(img, m, err);
	image_close(img);
	model_free(m);
	return ret;
}

static void touch(const char *path)
{
	close(open(path, O_CREAT | O_WRONLY, 0600));
}

static void into_what_there_is(void **state)
{
	struct err err = {0};
	ino_t before;
	unsigned n;

	assert_int_equal(make_into("x", IMAGE_CRIU, true, &err), -ENOENT);
	err_clear(&err);
	mkdir("x", 0755);
	touch("x/dump.log");
	touch("x/theirs.json");
	assert_int_equal(make_into("x", IMAGE_CRIU, true, &err), 0);
	assert_true(is_whole("x"));
	assert_int_equal(mode("x"), 0755);
	n = entries("x");
	before = inode("x/inventory.img");

	/* One that is given up leaves the one that was there. */
	assert_int_equal(make_into("x", IMAGE_CRIU, false, &err), 0);
	assert_true(is_whole("x"));
	assert_int_equal(entries("x"), n);
	assert_true(inode("x/inventory.img") == before);

	/* The next takes its place, and what this one does not have goes. */
	touch("x/core-999.img");
	touch("x/ghost-file-1f.img");
	touch("x/pagemap-shmem-3.img");
	touch("x/" IMAGE_BLOCK_FILE);
	assert_int_equal(make_into("x", IMAGE_CRIU, true, &err), 0);
	assert_true(is_whole("x"));
	assert_int_equal(entries("x"), n);
	assert_int_equal(access("x/dump.log", F_OK), 0);
	assert_int_equal(access("x/theirs.json", F_OK), 0);
	assert_true(inode("x/inventory.img") != before);
	scratch_remove("x");
}

/* A directory stands where a file of the image shall be: half of them have moved by then. */
static void into_and_stuck(void **state)
{
	struct err err = {0};

	mkdir("x", 0755);
	touch("x/dump.log");
	mkdir("x/pstree.img", 0755);
	assert_true(make_into("x", IMAGE_CRIU, true, &err) < 0);
	assert_int_equal(entries("x"), 2);
	rmdir("x/pstree.img");
	scratch_remove("x");
}

static void somebody_takes_the_name(void **state)
{
	for (int full = 0; full < 2; full++) {
		struct err err = {0};
		struct model *m = small_model(1);
		struct image *img = image_create("x", IMAGE_CRIU, &err);

		image_write_model(img, m, &err);
		assert_no_err(&err);
		mkdir("x", 0700);
		if (full)
			close(open("x/theirs", O_CREAT | O_WRONLY, 0600));
		assert_int_equal(image_commit(img, m, &err), -EEXIST);
		assert_int_equal(err.class, ERR_EXISTS);
		image_close(img);
		assert_int_equal(entries("."), 1);
		assert_int_equal(entries("x"), full);
		scratch_remove("x");
		model_free(m);
	}
}

static void killed_run_is_cleaned_up(void **state)
{
	int pipefd[2], status;
	pid_t pid;

	assert_int_equal(pipe(pipefd), 0);
	pid = fork();
	if (!pid) {
		struct err err = {0};
		struct model *m = small_model(1);
		struct image *img = image_create("x", IMAGE_CRIU, &err);

		image_write_model(img, m, &err);
		(void)!write(pipefd[1], "", 1);
		pause();
		_exit(0);
	}
	assert_int_equal(read(pipefd[0], (char[1]){0}, 1), 1);
	assert_int_equal(entries("."), 1);
	/* a run that lives is left alone */
	make("x");
	assert_int_equal(entries("."), 2);
	scratch_remove("x");
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(entries("."), 1);
	make("x");
	assert_int_equal(entries("."), 1);
	scratch_remove("x");
	close(pipefd[0]);
	close(pipefd[1]);
}

/* --- disks ---------------------------------------------------------------------------------- */

static bool have_mounts(void)
{
	static int have = -1;

	if (have < 0)
		have = !unshare(CLONE_NEWNS) && !mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
	if (!have)
		printf("needs mount(2): skipped\n");
	return have;
}

static void disk(const char *options)
{
	mkdir("disk", 0755);
	assert_int_equal(mount("tmpfs", "disk", "tmpfs", 0, options), 0);
}

static void no_disk(void)
{
	assert_int_equal(umount("disk"), 0);
	assert_int_equal(rmdir("disk"), 0);
}

/* From a disk that takes nothing to one that takes all, a page or an inode at a time. */
static void fill(const char *format, const char *path)
{
	bool fitted = false;

	for (unsigned n = 2; n < 80 && !fitted; n++) {
		struct err err = {0};
		char options[64];

		snprintf(options, sizeof(options), format, n);
		disk(options);
		small_image(path, IMAGE_CRIU, 2, 2, &err);
		fitted = !err.errnum;
		if (fitted) {
			assert_true(is_whole(path));
		} else {
			assert_int_equal(err.class, ERR_NOSPACE);
			assert_int_equal(entries("disk"), 0);
		}
		no_disk();
	}
	assert_true(fitted);
}

static void full_disk_at_every_stage(void **state)
{
	if (!have_mounts())
		skip();
	fill("nr_blocks=%u", "disk/x");
	fill("nr_inodes=%u", "disk/x");
	fill("nr_blocks=%u", "disk");
}

static void mount_point_is_filled_in_place(void **state)
{
	if (!have_mounts())
		skip();
	disk("size=1m");
	make("disk");
	assert_true(is_whole("disk"));
	assert_int_equal(mode("disk"), 0700);
	no_disk();
	/* a bind mount has the device of its parent */
	mkdir("src", 0700);
	mkdir("dst", 0700);
	assert_int_equal(mount("src", "dst", NULL, MS_BIND, NULL), 0);
	make("dst");
	assert_true(is_whole("src"));
	assert_int_equal(umount("dst"), 0);
	scratch_remove("src");
	scratch_remove("dst");
}

static void read_only_disk(void **state)
{
	if (!have_mounts())
		skip();
	disk("size=1m");
	mkdir("disk/empty", 0700);
	assert_int_equal(mount(NULL, "disk", NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
	refused("disk/x", ERR_READONLY);
	refused("disk/empty", ERR_READONLY);
	no_disk();
}

/* --- another user --------------------------------------------------------------------------- */

static int as_nobody(void (*what)(void))
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		if (setgid(65534) || setuid(65534))
			_exit(1);
		what();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void nobody(void)
{
	struct err err = {0};

	if (image_create("x", IMAGE_CRIU, &err) || err.class != ERR_READONLY)
		_exit(2);
	err_clear(&err);
	/* an empty directory of ours below one that is not: in place */
	if (small_image("mine", IMAGE_CRIU, 1, 2, &err))
		_exit(3);
	if (!is_whole("mine"))
		_exit(4);
	if (image_create("theirs", IMAGE_CRIU, &err) || err.class != ERR_READONLY)
		_exit(5);
}

static void directories_of_others(void **state)
{
	if (geteuid() != 0)
		skip();
	chmod(".", 0755);
	mkdir("mine", 0755);
	mkdir("theirs", 0755);
	assert_int_equal(chown("mine", 65534, 65534), 0);
	assert_int_equal(as_nobody(nobody), 0);
	assert_int_equal(entries("."), 2);
	/* in a sticky directory somebody else's empty directory cannot be renamed over */
	assert_int_equal(chmod(".", 01777), 0);
	assert_int_equal(entries("theirs"), 0);
	scratch_remove("mine");
	scratch_remove("theirs");
	chmod(".", 0700);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_way_to_name_it),
		cmocka_unit_test(long_name),
		cmocka_unit_test(empty_directory_is_replaced),
		cmocka_unit_test(working_directory_stays),
		cmocka_unit_test(what_is_there_stays),
		cmocka_unit_test(modes_do_not_follow_umask),
		cmocka_unit_test(not_committed_is_not_there),
		cmocka_unit_test(into_what_there_is),
		cmocka_unit_test(into_and_stuck),
		cmocka_unit_test(somebody_takes_the_name),
		cmocka_unit_test(killed_run_is_cleaned_up),
		cmocka_unit_test(full_disk_at_every_stage),
		cmocka_unit_test(mount_point_is_filled_in_place),
		cmocka_unit_test(read_only_disk),
		cmocka_unit_test(directories_of_others),
	};

	return cmocka_run_group_tests(tests, scratch_enter, scratch_leave);
}
