# Features, units and log-likelihoods -> scores.
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
