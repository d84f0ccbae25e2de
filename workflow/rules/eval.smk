# Features, units and log-likelihoods -> scores -> tables, figures, report, comparisons.
#
# ABX takes more memory when it is tried again, and no more time: then fewer jobs of a group fit beside one another, and
# the times of those that follow one another add up.


rule abx_features:
    input:
        features=f"{ROOT}/features/{{encoder}}/L{{layer}}/{{corpus}}",
        item=abx_item,
    output:
        abx_scores(f"{ROOT}/scores/{{encoder}}/L{{layer}}", "abx_continuous"),
    log:
        f"{LOGS}/abx_features/{{encoder}}/L{{layer}}/{{corpus}}{{variant}}.log",
    benchmark:
        f"{BENCHMARKS}/abx_features/{{encoder}}/L{{layer}}/{{corpus}}{{variant}}.tsv"
    wildcard_constraints:
        corpus=any_of(ANNOTATED),
        variant="(_any)?(_phoneme)?",
    group:
        "features_{encoder}"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=by_attempt(32000),
        runtime=LAUNCH.minutes(240),
        gpu=scoring_gpu,
    params:
        subject=subject_of_layer,
        folder=lambda wildcards, output: Path(output[0]).parent,
        conditions=CONDITIONS,
        context=abx_context,
        segments=abx_segments,
        resample=RESAMPLE,
        device=scoring_device,
        seed=EXPERIMENT.seed,
    shell:
        "python -m eval.abx --device {params.device} --features {input.features:q} --item {input.item:q}"
        " --metric abx_continuous --distance angular --speaker {params.conditions} --context {params.context}"
        " --segments {params.segments} --resample {params.resample} --dataset {wildcards.corpus}"
        " --subject {params.subject:q} --seed {params.seed} --output {params.folder:q} > {log:q} 2>&1"


rule abx_predictions:
    input:
        features=predictions_of,
        item=abx_item,
    output:
        abx_scores(f"{ROOT}/scores/{{system}}", "abx_codebook"),
    log:
        f"{LOGS}/abx_predictions/{{system}}/{{corpus}}{{variant}}.log",
    benchmark:
        f"{BENCHMARKS}/abx_predictions/{{system}}/{{corpus}}{{variant}}.tsv"
    wildcard_constraints:
        corpus=any_of(ANNOTATED),
        variant="(_any)?(_phoneme)?",
    group:
        "units_{system}"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=by_attempt(32000),
        runtime=LAUNCH.minutes(240),
        gpu=scoring_gpu,
    params:
        subject=subject_of_system,
        folder=lambda wildcards, output: Path(output[0]).parent,
        conditions=CONDITIONS,
        context=abx_context,
        segments=abx_segments,
        resample=RESAMPLE,
        device=scoring_device,
        seed=EXPERIMENT.seed,
    shell:
        "python -m eval.abx --device {params.device} --features {input.features:q} --item {input.item:q}"
        " --metric abx_codebook --distance kl_symmetric --speaker {params.conditions} --context {params.context}"
        " --segments {params.segments} --resample {params.resample} --dataset {wildcards.corpus}"
        " --subject {params.subject:q} --seed {params.seed} --output {params.folder:q} > {log:q} 2>&1"


rule abx_units:
    input:
        units=f"{ROOT}/units/{{system}}/{{corpus}}.jsonl",
        item=abx_item,
        vocabulary=vocabulary,
    output:
        abx_scores(f"{ROOT}/scores/{{system}}", "abx_units"),
    log:
        f"{LOGS}/abx_units/{{system}}/{{corpus}}{{variant}}.log",
    benchmark:
        f"{BENCHMARKS}/abx_units/{{system}}/{{corpus}}{{variant}}.tsv"
    wildcard_constraints:
        corpus=any_of(ANNOTATED),
        variant="(_any)?(_phoneme)?",
    group:
        "units_{system}"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=by_attempt(32000),
        runtime=LAUNCH.minutes(240),
        gpu=scoring_gpu,
    params:
        subject=subject_of_system,
        folder=lambda wildcards, output: Path(output[0]).parent,
        conditions=CONDITIONS,
        context=abx_context,
        segments=abx_segments,
        resample=RESAMPLE,
        device=scoring_device,
        seed=EXPERIMENT.seed,
    shell:
        "python -m eval.abx --device {params.device} --units {input.units:q} --vocabulary {input.vocabulary:q}"
        " --item {input.item:q} --metric abx_units --distance identical --speaker {params.conditions}"
        " --context {params.context} --segments {params.segments} --resample {params.resample}"
        " --dataset {wildcards.corpus} --subject {params.subject:q} --seed {params.seed} --output {params.folder:q}"
        " > {log:q} 2>&1"


rule quality:
    input:
        units=[f"{ROOT}/units/{{system}}/{corpus}.jsonl" for corpus in POOLED],
        vocabulary=vocabulary,
        intervals=[f"{ROOT}/corpora/{corpus}/intervals.csv" for corpus in POOLED],
        manifest=[manifest(corpus) for corpus in POOLED],
    output:
        [f"{ROOT}/scores/{{system}}/{metric}.{TARGETS.quality_dataset()}.json" for metric in QUALITY_METRICS],
        counts=f"{ROOT}/scores/{{system}}/joint_counts.{TARGETS.quality_dataset()}.csv",
    log:
        f"{LOGS}/quality/{{system}}.log",
    benchmark:
        f"{BENCHMARKS}/quality/{{system}}.tsv"
    group:
        "units_{system}"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=by_attempt(4000),
        runtime=minutes(30),
    params:
        subject=subject_of_system,
        dataset=TARGETS.quality_dataset(),
        folder=lambda wildcards, output: Path(output[0]).parent,
        seed=EXPERIMENT.seed,
    shell:
        "python -m eval.quality --units {input.units:q} --vocabulary {input.vocabulary:q}"
        " --intervals {input.intervals:q} --manifest {input.manifest:q} --dataset {params.dataset}"
        " --subject {params.subject:q} --seed {params.seed} --output {params.folder:q} > {log:q} 2>&1"


rule map_words:
    input:
        features=f"{ROOT}/features/{{encoder}}/L{{layer}}/{{corpus}}",
        words=f"{ROOT}/corpora/{{corpus}}/words.csv",
    output:
        f"{ROOT}/scores/{{encoder}}/L{{layer}}/map_words.{{corpus}}.{{variant}}.json",
    log:
        f"{LOGS}/map_words/{{encoder}}/L{{layer}}/{{corpus}}.{{variant}}.log",
    benchmark:
        f"{BENCHMARKS}/map_words/{{encoder}}/L{{layer}}/{{corpus}}.{{variant}}.tsv"
    wildcard_constraints:
        corpus=any_of(ANNOTATED),
        variant="strict|speech-map",
    group:
        "features_{encoder}"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=by_attempt(4000),
        runtime=minutes(60),
    params:
        subject=subject_of_layer,
        folder=lambda wildcards, output: Path(output[0]).parent,
        seed=EXPERIMENT.seed,
    shell:
        "python -m eval.map --features {input.features:q} --words {input.words:q} --variant {wildcards.variant}"
        " --dataset {wildcards.corpus} --subject {params.subject:q} --seed {params.seed} --output {params.folder:q}"
        " > {log:q} 2>&1"


# One rule a zero-shot metric that is wanted, named like it.
for METRIC in TARGETS.zeroshot:

    rule:
        name:
            METRIC
        input:
            likelihoods=f"{ROOT}/likelihoods/{{system}}/{{slm}}/seed{{seed}}/{TARGETS.zeroshot[METRIC]}.csv",
            items_table=f"{ROOT}/corpora/{TARGETS.zeroshot[METRIC]}/items.csv",
            training=f"{ROOT}/slm/{{system}}/{{slm}}/seed{{seed}}/summary.json",
        output:
            [f"{ROOT}/scores/{{system}}/{{slm}}/seed{{seed}}/{name}" for name in TARGETS.zeroshot_scores(METRIC)],
        log:
            f"{LOGS}/{METRIC}/{{system}}/{{slm}}/seed{{seed}}.log",
        benchmark:
            f"{BENCHMARKS}/{METRIC}/{{system}}/{{slm}}/seed{{seed}}.tsv"
        localrule: True
        conda:
            "../../envs/environment.yaml"
        resources:
            mem_mb=2000,
            runtime=30,
        params:
            metric=METRIC,
            dataset=TARGETS.zeroshot[METRIC],
            normalization=lambda wildcards, metric=METRIC: normalization_of(metric, wildcards.system),
            subject=subject_of_system,
            folder=lambda wildcards, output: Path(output[0]).parent,
            seed=EXPERIMENT.seed,
        shell:
            "python -m eval.{params.metric} --seed {params.seed} --likelihoods {input.likelihoods:q}"
            " --items {input.items_table:q} --training {input.training:q} --dataset {params.dataset}"
            " --normalization {params.normalization:q} --subject {params.subject:q} --output {params.folder:q}"
            " > {log:q} 2>&1"


# Which layer a system named best is of. What is made of it is known only then.
checkpoint select_layer:
    input:
        lambda wildcards: TARGETS.selected_by(wildcards.encoder),
    output:
        f"{ROOT}/layers/{{encoder}}.json",
    log:
        f"{LOGS}/select_layer/{{encoder}}.log",
    benchmark:
        f"{BENCHMARKS}/select_layer/{{encoder}}.tsv"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=500,
        runtime=10,
    shell:
        "python -m eval.best_layer --scores {input:q} --output {output:q} > {log:q} 2>&1"


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
