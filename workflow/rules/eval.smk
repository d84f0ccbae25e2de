# Features, units and log-likelihoods -> scores -> tables, figures, report, comparisons.


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
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=32000,
        runtime=240,
    params:
        subject=subject_of_layer,
        folder=lambda wildcards, output: Path(output[0]).parent,
        conditions=CONDITIONS,
        context=abx_context,
        segments=abx_segments,
        resample=RESAMPLE,
        device=device_of,
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
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=32000,
        runtime=240,
    params:
        subject=subject_of_system,
        folder=lambda wildcards, output: Path(output[0]).parent,
        conditions=CONDITIONS,
        context=abx_context,
        segments=abx_segments,
        resample=RESAMPLE,
        device=device_of,
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
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=32000,
        runtime=240,
    params:
        subject=subject_of_system,
        folder=lambda wildcards, output: Path(output[0]).parent,
        conditions=CONDITIONS,
        context=abx_context,
        segments=abx_segments,
        resample=RESAMPLE,
        device=device_of,
        seed=EXPERIMENT.seed,
    shell:
        "python -m eval.abx --device {params.device} --units {input.units:q} --vocabulary {input.vocabulary:q} --item {input.item:q}"
        " --metric abx_units --distance identical --speaker {params.conditions} --context {params.context}"
        " --segments {params.segments} --resample {params.resample} --dataset {wildcards.corpus}"
        " --subject {params.subject:q} --seed {params.seed} --output {params.folder:q} > {log:q} 2>&1"


rule quality:
    input:
        units=[f"{ROOT}/units/{{system}}/{corpus}.jsonl" for corpus in POOLED],
        vocabulary=vocabulary,
        intervals=[f"{ROOT}/corpora/{corpus}/intervals.csv" for corpus in POOLED],
        manifest=[manifest(corpus) for corpus in POOLED],
    output:
        [f"{ROOT}/scores/{{system}}/{metric}.{TARGETS.quality_dataset()}.json" for metric in QUALITY_METRICS],
    log:
        f"{LOGS}/quality/{{system}}.log",
    benchmark:
        f"{BENCHMARKS}/quality/{{system}}.tsv"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        subject=subject_of_system,
        dataset=TARGETS.quality_dataset(),
        folder=lambda wildcards, output: Path(output[0]).parent,
        seed=EXPERIMENT.seed,
    shell:
        "python -m eval.quality --units {input.units:q} --vocabulary {input.vocabulary:q} --intervals {input.intervals:q}"
        " --manifest {input.manifest:q} --dataset {params.dataset} --subject {params.subject:q} --seed {params.seed}"
        " --output {params.folder:q} > {log:q} 2>&1"


rule map_words:
    input:
        features=f"{ROOT}/features/{{encoder}}/L{{layer}}/{{corpus}}",
        words=f"{ROOT}/corpora/{{corpus}}/words.csv",
    output:
        f"{ROOT}/scores/{{encoder}}/L{{layer}}/map_words.{{corpus}}.strict.json",
    log:
        f"{LOGS}/map_words/{{encoder}}/L{{layer}}/{{corpus}}.log",
    benchmark:
        f"{BENCHMARKS}/map_words/{{encoder}}/L{{layer}}/{{corpus}}.tsv"
    wildcard_constraints:
        corpus=any_of(ANNOTATED),
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=8000,
        runtime=60,
    params:
        subject=subject_of_layer,
        folder=lambda wildcards, output: Path(output[0]).parent,
        seed=EXPERIMENT.seed,
    shell:
        "python -m eval.map --features {input.features:q} --words {input.words:q} --dataset {wildcards.corpus}"
        " --subject {params.subject:q} --seed {params.seed} --output {params.folder:q} > {log:q} 2>&1"


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
            subject=subject_of_system,
            folder=lambda wildcards, output: Path(output[0]).parent,
            seed=EXPERIMENT.seed,
        shell:
            "python -m eval.{params.metric} --seed {params.seed} --likelihoods {input.likelihoods:q}"
            " --items {input.items_table:q} --training {input.training:q} --dataset {params.dataset}"
            " --subject {params.subject:q} --output {params.folder:q} > {log:q} 2>&1"


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
        f"{ROOT}/scores.csv",
    log:
        f"{LOGS}/collect.log",
    benchmark:
        f"{BENCHMARKS}/collect.tsv"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    shell:
        "python -m eval.collect --scores {input:q} --output {output:q} > {log:q} 2>&1"


rule draw_tables:
    input:
        f"{ROOT}/scores.csv",
    output:
        TARGETS.tables(),
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
        numbers=EXPERIMENT.tables,
        folder=lambda wildcards, output: Path(output[0]).parent,
    shell:
        "python -m eval.tables --table {params.numbers} --scores {input:q} --output {params.folder:q} > {log:q} 2>&1"


rule draw_figures:
    input:
        f"{ROOT}/scores.csv",
    output:
        TARGETS.score_figures(),
    log:
        f"{LOGS}/figures.log",
    benchmark:
        f"{BENCHMARKS}/figures.tsv"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        numbers=TARGETS.score_figure_numbers(),
        folder=lambda wildcards, output: Path(output[0]).parent,
    shell:
        "python -m eval.figures --figure {params.numbers} --scores {input:q} --output {params.folder:q} > {log:q} 2>&1"


rule draw_training_curves:
    input:
        [f"{TARGETS.encoder_folders()[encoder]}/config.json" for encoder in TARGETS.training_logs()],
    output:
        TARGETS.training_figure(),
    log:
        f"{LOGS}/training_curves.log",
    benchmark:
        f"{BENCHMARKS}/training_curves.tsv"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        logs=[f"{display_name(encoder)}={log}" for encoder, log in TARGETS.training_logs().items()],
        stem=lambda wildcards, output: Path(output[0]).with_suffix(""),
    shell:
        "python -m eval.training_curves --log {params.logs:q} --output {params.stem:q} > {log:q} 2>&1"


rule draw_alignment:
    input:
        manifest=[manifest(corpus) for corpus in ALIGNED],
        intervals=[f"{ROOT}/corpora/{corpus}/intervals.csv" for corpus in ALIGNED],
        units=[f"{ROOT}/units/{system.name}/{corpus}.jsonl" for system in ALIGNED_SYSTEMS for corpus in ALIGNED],
        vocabularies=[f"{folder_of_quantizer(system)}/config.json" for system in ALIGNED_SYSTEMS],
    output:
        TARGETS.alignment(),
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
        "python -m eval.alignment --manifest {input.manifest:q} --intervals {input.intervals:q} --systems {params.names:q}"
        " --units {input.units:q} --vocabularies {input.vocabularies:q} --output {params.stem:q} > {log:q} 2>&1"


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
    output:
        f"{ROOT}/report.html",
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
        tables=lambda wildcards, input: Path(input.scores).parent / "tables",
        figures=lambda wildcards, input: Path(input.scores).parent / "figures",
        alignment=lambda wildcards, input: (f"--alignment {input.alignment[0]}" if input.alignment else ""),
        encoders=[f"{name}={folder}" for name, folder in TARGETS.encoder_folders().items()],
    shell:
        "python -m eval.report --experiment {params.experiment} --scores {input.scores:q} --score-folder {params.folder:q}"
        " --tables {params.tables:q} --figures {params.figures:q} {params.alignment} --manifests {input.manifests:q}"
        " --encoders {params.encoders:q} --trainings {input.trainings:q} --health {input.health:q} --config {params.config:q}"
        " --output {output:q} > {log:q} 2>&1"


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
    shell:
        "python -m eval.compare --a {wildcards.a} --b {wildcards.b} --scores-a {input.a:q} --scores-b {input.b:q}"
        " --output {output:q} > {log:q} 2>&1"
