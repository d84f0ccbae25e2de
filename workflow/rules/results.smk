# Scores -> one table of all, the paper's tables, alignment, samples, report, comparisons. Figures: figures.smk.


rule collect:
    input:
        after_selection(TARGETS.scores),
    output:
        report(f"{ROOT}/scores.csv", caption="../report/scores.rst", category="Scores"),
    log:
        f"{LOGS}/collect.log",
    benchmark:
        f"{BENCHMARKS}/collect.tsv"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        names=NAMES,
    shell:
        "python -m eval.collect --scores {input:q} --names {params.names:q} --output {output:q} > {log:q} 2>&1"


rule footprint:
    input:
        [f"{TARGETS.encoder_folders()[encoder]}/config.json" for encoder in TARGETS.pretrained()],
    output:
        f"{ROOT}/footprint.csv",
    log:
        f"{LOGS}/footprint.log",
    benchmark:
        f"{BENCHMARKS}/footprint.tsv"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=500,
        runtime=10,
    params:
        trainings=[f"{display_name(encoder)}={summary}" for encoder, summary in TARGETS.pretrained().items()],
    shell:
        "python -m eval.footprint --training {params.trainings:q} --output {output:q} > {log:q} 2>&1"


rule draw_tables:
    input:
        scores=f"{ROOT}/scores.csv",
        others=TARGETS.others(),
        footprints=list(TARGETS.footprints().values()),
        hyperparameters=list(TARGETS.hyperparameters().values()),
    output:
        [
            report(path, caption="../report/table.rst", category="Tables") if path.endswith(".csv") else path
            for path in TARGETS.tables()
        ],
    log:
        f"{LOGS}/tables.log",
    benchmark:
        f"{BENCHMARKS}/tables.tsv"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        wanted=TABLE_ARGUMENTS,
        intervals="--intervals" if EXPERIMENT.intervals else "",
        folder=lambda wildcards, output: Path(output[0]).parent,
    shell:
        "python -m eval.tables --scores {input.scores:q} {params.wanted:q} {params.intervals}"
        " --output {params.folder:q} > {log:q} 2>&1"


rule draw_alignment:
    input:
        manifest=[manifest(corpus) for corpus in ALIGNED],
        intervals=[f"{ROOT}/corpora/{corpus}/intervals.csv" for corpus in ALIGNED],
        units=[f"{ROOT}/units/{system.name}/{corpus}.jsonl" for system in ALIGNED_SYSTEMS for corpus in ALIGNED],
        vocabularies=[f"{folder_of_quantizer(system)}/config.json" for system in ALIGNED_SYSTEMS],
    output:
        [
            report(path, caption="../report/alignment.rst", category="Figures") if path.endswith(".png") else path
            for path in TARGETS.alignment()
        ],
    log:
        f"{LOGS}/alignment.log",
    benchmark:
        f"{BENCHMARKS}/alignment.tsv"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        names=[lane_name(system) for system in ALIGNED_SYSTEMS],
        stem=lambda wildcards, output: Path(output[0]).with_suffix(""),
    shell:
        "python -m eval.alignment --manifest {input.manifest:q} --intervals {input.intervals:q}"
        " --systems {params.names:q} --units {input.units:q} --vocabularies {input.vocabularies:q}"
        " --output {params.stem:q} > {log:q} 2>&1"


rule draw_samples:
    input:
        items_table=lambda wildcards: f"{ROOT}/corpora/{TARGETS.zeroshot[wildcards.metric]}/items.csv",
        manifest=lambda wildcards: manifest(TARGETS.zeroshot[wildcards.metric]),
        units=lambda wildcards: [
            f"{ROOT}/units/{system}/{TARGETS.zeroshot[wildcards.metric]}.jsonl"
            for system in TARGETS.sampled(wildcards.metric)
        ],
        likelihoods=lambda wildcards: list(TARGETS.sampled(wildcards.metric).values()),
    output:
        f"{ROOT}/samples/{{metric}}.json",
    log:
        f"{LOGS}/samples/{{metric}}.log",
    benchmark:
        f"{BENCHMARKS}/samples/{{metric}}.tsv"
    wildcard_constraints:
        metric=any_of(TARGETS.zeroshot),
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        dataset=lambda wildcards: TARGETS.zeroshot[wildcards.metric],
        systems=lambda wildcards: list(TARGETS.sampled(wildcards.metric)),
        normalizations=lambda wildcards: [
            normalization_of(wildcards.metric, system) for system in TARGETS.sampled(wildcards.metric)
        ],
    shell:
        "python -m eval.samples --metric {wildcards.metric} --dataset {params.dataset} --items {input.items_table:q}"
        " --manifest {input.manifest:q} --systems {params.systems:q} --units {input.units:q}"
        " --likelihoods {input.likelihoods:q} --normalization {params.normalizations:q} --output {output:q}"
        " > {log:q} 2>&1"


rule report:
    input:
        scores=f"{ROOT}/scores.csv",
        items_tables=after_selection(TARGETS.scores),
        tables=TARGETS.tables(),
        figures=TARGETS.figures(),
        alignment=TARGETS.alignment(),
        manifests=[manifest(corpus) for corpus in TARGETS.used_corpora()],
        encoders=[f"{folder}/config.json" for folder in TARGETS.encoder_folders().values()],
        trainings=after_selection(TARGETS.trainings),
        health=TARGETS.health(),
        samples=TARGETS.samples(),
    output:
        report(f"{ROOT}/report.html", caption="../report/page.rst", category="Report"),
    log:
        f"{LOGS}/report.log",
    benchmark:
        f"{BENCHMARKS}/report.tsv"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        experiment=EXPERIMENT.experiment,
        config=EXPERIMENT_FILE,
        folder=lambda wildcards, input: Path(input.scores).parent / "scores",
        tables=TABLE_ARGUMENTS,
        figures=lambda wildcards, input: Path(input.scores).parent / "figures",
        alignment=lambda wildcards, input: (f"--alignment {input.alignment[0]}" if input.alignment else ""),
        encoders=[f"{name}={folder}" for name, folder in TARGETS.encoder_folders().items()],
    shell:
        "python -m eval.report --experiment {params.experiment} --scores {input.scores:q}"
        " --score-folder {params.folder:q} {params.tables:q} --figures {params.figures:q} {params.alignment}"
        " --manifests {input.manifests:q} --encoders {params.encoders:q} --trainings {input.trainings:q}"
        " --health {input.health:q} --samples {input.samples:q} --config {params.config:q} --output {output:q}"
        " > {log:q} 2>&1"


# Of what lies under results/, whoever made it: nothing is run for it, and it is made anew whenever it is asked for.
rule leaderboard:
    log:
        "results/leaderboard.log",
    conda:
        "../../envs/environment.yaml"
    shell:
        "python -m eval.leaderboard --results results --output results/leaderboard > {log:q} 2>&1 && cat {log:q}"


rule compare:
    input:
        a=lambda wildcards: compared(wildcards.a),
        b=lambda wildcards: compared(wildcards.b),
    output:
        f"{ROOT}/compare/{{a}}--vs--{{b}}.md",
    log:
        f"{LOGS}/compare/{{a}}--vs--{{b}}.log",
    benchmark:
        f"{BENCHMARKS}/compare/{{a}}--vs--{{b}}.tsv"
    wildcard_constraints:
        a=any_of(EXPERIMENT.all_systems),
        b=any_of(EXPERIMENT.all_systems),
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        names=NAMES,
    shell:
        "python -m eval.compare --a {wildcards.a} --b {wildcards.b} --scores-a {input.a:q} --scores-b {input.b:q}"
        " --names {params.names:q} --output {output:q} > {log:q} 2>&1"
