# The front door: reads the experiment, includes the rules, names the targets.
#
#   snakemake -c 2 all --configfile config/demo.yaml


include: "workflow/rules/common.smk"
include: "workflow/rules/corpora.smk"
include: "workflow/rules/spidr.smk"
include: "workflow/rules/spin.smk"
include: "workflow/rules/units.smk"
include: "workflow/rules/slm.smk"
include: "workflow/rules/eval.smk"
include: "workflow/rules/results.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/elsewhere.smk"
include: "workflow/rules/preflight.smk"


# Seconds of one core, or the network: on a cluster these run where snakemake does.
localrules:
    all,
    scores,
    tables,
    figures,
    initialize,
    describe_encoder,
    describe_tokenizer,
    made_elsewhere,
    codebook,
    given_kmeans,
    phone_inventory,
    take_features,
    select_layer,
    collect,
    footprint,
    draw_tables,
    draw_figure,
    draw_training_curves,
    draw_hardware,
    schedules,
    draw_schedules,
    mask,
    draw_mask,
    draw_embeddings,
    draw_phone_given_unit,
    draw_alignment,
    draw_samples,
    report,
    compare,
    leaderboard,
    plan,
    check,


onsuccess:
    print_run(EXPERIMENT.experiment, STARTED, time.time(), [Path(file) for file in log])


onerror:
    print_run(EXPERIMENT.experiment, STARTED, time.time(), [Path(file) for file in log])


rule all:
    default_target: True
    input:
        f"{ROOT}/scores.csv",
        f"{ROOT}/report.html",
        TARGETS.tables(),
        TARGETS.figures(),
        TARGETS.alignment(),
        TARGETS.health(),


rule scores:
    input:
        f"{ROOT}/scores.csv",


rule tables:
    input:
        TARGETS.tables(),


rule figures:
    input:
        TARGETS.figures(),
        TARGETS.alignment(),
