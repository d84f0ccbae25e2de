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


# Seconds of one core, or the network: on a cluster these run where snakemake does.
localrules:
    all,
    scores,
    tables,
    figures,
    describe_encoder,
    codebook,
    given_kmeans,
    phone_inventory,
    take_features,
    take_units,
    health,
    select_layer,
    collect,
    draw_tables,
    draw_figures,
    draw_training_curves,
    draw_alignment,
    report,
    compare,


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
