/*
 * check.c - plays a recording up to many points, and looks at what a power cut
 * there would have left.
 *
 * usage: crash_check [option]... LOG LEDGER ROOT
 *   --images N     how many (default 200), spread evenly over all moments
 *                  at which a sync or an acknowledgement began or ended
 *   --seed S       image I of seed S is always the same (default 1)
 *   --only I       this one image alone; with --into FOLDER it is left there as
 *                  it was before the store was opened
 *   --first        stop at the first that is wrong
 *   --end          with --into: everything that was done, as it should be on disk now
 *   --after N      cuts only behind this count of the recorder
 *   --again K      record how each image is opened, and cut that K times; needs --recorder
 *   --recorder LIBRARIES   to be preloaded
 *   --lie WORD     data-sync, meta-sync, body-sync, folder-sync, early: what the disk
 *                  (or the relay) pretends; the check must fail. With --again the
 *                  first cut is honest, and the disk begins to lie behind it
 *   --open FOLDER AT_OPEN   (alone) what --again records
 *   --keep FOLDER  failing images are left here, named by seed and number
 *   --jobs N       at once (default 1)
 *
 * Each image is made and opened in a process of its own: a damaged map ends that
 * one alone. Exit code 0: nothing wrong; 1: wrong images; 2: the recording is not
 * usable.
 */
#include "tests/crash/again.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct options {
    unsigned long images, seed, only, jobs, again;
    uint64_t after;
    bool has_only, is_end, first_only;
    const char *into, *keep, *recorder, *log, *ledger, *root;
    enum lie lie;
};

struct run {
    const struct options *options;
    struct disk *disk;
    struct promises *promises;
    struct verify_count *count;
    struct again again;
    unsigned long running;
    char scratch[4000]; /* what crashed leaves its image here */
};

/* ---- one image ------------------------------------------------------------------------------ */

static void temporary(char *out, size_t size)
{
    const char *tmp = getenv("TMPDIR");

    snprintf(out, size, "%s/crash-image-XXXXXX", tmp ? tmp : "/dev/shm");
    if (!mkdtemp(out)) {
        perror(out);
        exit(2);
    }
}

/* In the child. */
static int check_one(const struct run *run, const struct plan *plan)
{
    const struct options *options = run->options;
    char folder[4100], data[4200], label[128];

    snprintf(label, sizeof(label), "image %lu of seed %lu (cut %llu, %s %u%%)", plan->number,
             options->seed, (unsigned long long)plan->cut, fate_word(plan->fate), plan->percent);
    snprintf(folder, sizeof(folder), "%s/%lu", run->scratch, plan->number);
    bool ok = plan_image(run->disk, *plan, folder);
    if (!ok)
        printf("%s: it cannot be written\n", label);
    snprintf(data, sizeof(data), "%s/data", folder);
    if (ok && options->again) {
        ok = again_check(&run->again, plan, folder, label);
    } else if (ok) {
        if (mkdir(data, 0700) == 0) /* as the relay would: then nothing was promised either */
            run->count->no_store++;
        ok = verify_image(data, run->promises, plan->cut, label, run->count);
    }
    plan_remove(folder);
    fflush(stdout);
    return ok ? 0 : 1;
}

/* ---- all images ------------------------------------------------------------------------------- */

static void keep_image(struct run *run, const struct plan *plan)
{
    char folder[4200];

    if (!run->options->keep)
        return;
    snprintf(folder, sizeof(folder), "%s/seed-%lu-image-%lu", run->options->keep,
             run->options->seed, plan->number);
    if (!plan_image(run->disk, *plan, folder))
        perror(folder);
}

static void reap(struct run *run)
{
    int status = 0;

    if (wait(&status) < 0)
        return;
    run->running--;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return;
    run->count->failed++;
    if (!WIFEXITED(status))
        printf("an image ended its check with signal %d\n", WTERMSIG(status));
    fflush(stdout);
}

static void start_one(struct run *run, const struct plan *plan)
{
    while (run->running >= run->options->jobs)
        reap(run);
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        int rc = check_one(run, plan);
        if (rc && !run->options->again)
            keep_image(run, plan);
        _exit(rc);
    }
    if (pid < 0) {
        perror("fork");
        exit(2);
    }
    run->running++;
    run->count->images++;
}

static void run_all(struct run *run, const struct recording *recording)
{
    const struct options *options = run->options;
    struct plan *plans = plan_all(recording, options->images, options->seed);
    size_t next = 0;

    temporary(run->scratch, sizeof(run->scratch));
    for (unsigned long i = 0; i < options->images; i++) {
        if (options->first_only && run->count->failed)
            break;
        if (options->has_only && plans[i].number != options->only)
            continue;
        recording_play(recording, run->disk, &next, plans[i].cut);
        if (options->into && !plan_image(run->disk, plans[i], options->into))
            perror(options->into);
        start_one(run, &plans[i]);
    }
    while (run->running > 0)
        reap(run);
    plan_remove(run->scratch);
    free(plans);
}

static int build_end(struct disk *disk, const struct recording *recording, const char *into)
{
    struct dice dice = { 0 };
    size_t next = 0;

    recording_play(recording, disk, &next, UINT64_MAX);
    return disk_image(disk, FATE_KEPT, 100, &dice, into) ? 0 : 2;
}

static void say_result(const struct options *options, const struct recording *recording,
                       const struct verify_count *count)
{
    printf(
        "%lu images at %zu edges of %zu calls (%zu of sync_file_range), %lu wrong (seed %lu, lie: %s): ",
        count->images, recording->edge_count, recording->count, recording_ranges(recording),
        count->failed, options->seed, lie_word(options->lie));
    if (options->again)
        printf("%lu recoveries cut %lu times each (%lu had nothing to write; %lu commits; "
               "%lu went on in pages behind the open): ",
               count->recoveries, options->again, count->idle, count->commits, count->paged);
    printf("%lu promises held; "
           "found whole: %lu messages, %lu of them with a side file, %lu reports, %lu recipients; "
           "rightly gone: %lu; in the drop folder: %lu; settled and not back: %lu; dropped and not "
           "back: %lu; before there was a folder: %lu\n",
           count->acknowledged, count->messages, count->side_files, count->reports,
           count->recipients, count->gone, count->lying, count->settled, count->dropped,
           count->no_store);
}

/* ---- the command --------------------------------------------------------------------------------- */

static enum lie parse_lie(const char *word)
{
    for (unsigned i = 0; i < LIE_COUNT; i++) {
        if (strcmp(word, lie_word((enum lie)i)) == 0)
            return (enum lie)i;
    }
    fprintf(stderr, "there is no lie called %s\n", word);
    exit(2);
}

static bool parse(struct options *options, int argc, char **argv)
{
    static const struct option known[] = {
        { "images", required_argument, NULL, 'n' },
        { "seed", required_argument, NULL, 's' },
        { "only", required_argument, NULL, 'o' },
        { "into", required_argument, NULL, 'i' },
        { "keep", required_argument, NULL, 'k' },
        { "lie", required_argument, NULL, 'l' },
        { "jobs", required_argument, NULL, 'j' },
        { "end", no_argument, NULL, 'e' },
        { "first", no_argument, NULL, 'f' },
        { "after", required_argument, NULL, 'a' },
        { "again", required_argument, NULL, 'g' },
        { "recorder", required_argument, NULL, 'r' },
        { 0 },
    };

    for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        if (c == 'n')
            options->images = strtoul(optarg, NULL, 10);
        else if (c == 's')
            options->seed = strtoul(optarg, NULL, 10);
        else if (c == 'j')
            options->jobs = strtoul(optarg, NULL, 10);
        else if (c == 'o')
            options->only = strtoul(optarg, NULL, 10), options->has_only = true;
        else if (c == 'i')
            options->into = optarg;
        else if (c == 'k')
            options->keep = optarg;
        else if (c == 'l')
            options->lie = parse_lie(optarg);
        else if (c == 'f')
            options->first_only = true;
        else if (c == 'a')
            options->after = strtoull(optarg, NULL, 10);
        else if (c == 'g')
            options->again = strtoul(optarg, NULL, 10);
        else if (c == 'r')
            options->recorder = optarg;
        else if (c == 'e')
            options->is_end = true;
        else
            return false;
    }
    if (argc - optind != 3 || options->images == 0 || options->jobs == 0 ||
        (options->again && !options->recorder))
        return false;
    options->log = argv[optind];
    options->ledger = argv[optind + 1];
    options->root = argv[optind + 2];
    return !options->is_end || options->into;
}

int main(int argc, char **argv)
{
    /* Static: all of it lives as long as the process. */
    static struct options options = { .images = 200, .seed = 1, .jobs = 1 };
    static struct recording recording;
    static struct run run;

    if (argc == 4 && strcmp(argv[1], "--open") == 0)
        return again_open(argv[2], argv[3]);
    if (!parse(&options, argc, argv)) {
        fprintf(stderr, "usage: crash_check [option]... LOG LEDGER ROOT\n");
        return 2;
    }
    if (!recording_read(&recording, options.log, options.after)) {
        fprintf(stderr, "%s is not a recording\n", options.log);
        return 2;
    }
    run.options = &options;
    run.disk = disk_new(options.root, options.again ? LIE_NONE : options.lie);
    if (options.is_end)
        return build_end(run.disk, &recording, options.into);
    run.promises = promises_load(options.ledger, recording.records, recording.count,
                                 options.again ? LIE_NONE : options.lie);
    run.count =
        mmap(NULL, sizeof(*run.count), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (!run.promises || run.count == MAP_FAILED || recording.edge_count == 0)
        return 2;
    run.again = (struct again){ options.again, options.seed, options.recorder, options.keep,
                                options.lie,   run.promises, run.count };
    run_all(&run, &recording);
    say_result(&options, &recording, run.count);
    return run.count->failed ? 1 : 0;
}
