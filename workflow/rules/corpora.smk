# Speech as it lies on disk -> manifests, annotations, evaluation sets.


rule synthesize:
    output:
        directory(f"{ROOT}/corpora/{{corpus}}"),
    log:
        f"{LOGS}/synthesize/{{corpus}}.log",
    benchmark:
        f"{BENCHMARKS}/synthesize/{{corpus}}.tsv"
    wildcard_constraints:
        corpus=any_of(SYNTHETIC),
    conda:
        "../../envs/environment.yaml"
    threads: 2
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        settings=lambda wildcards: settings_json(EXPERIMENT.corpora[wildcards.corpus]),
        seed=EXPERIMENT.seed,
    shell:
        "python -m corpora.synthetic --settings {params.settings:q} --seed {params.seed} --processes {threads}"
        " --output {output} > {log} 2>&1"


rule prepare_corpus:
    input:
        source=source_of,
    output:
        manifest=f"{ROOT}/corpora/{{corpus}}/manifest.csv",
        speakers=f"{ROOT}/corpora/{{corpus}}/speakers.csv",
    log:
        f"{LOGS}/prepare/{{corpus}}.log",
    benchmark:
        f"{BENCHMARKS}/prepare/{{corpus}}.tsv"
    wildcard_constraints:
        corpus=any_of(FOLDERS),
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=2000,
        runtime=240,
    params:
        settings=lambda wildcards: settings_json(EXPERIMENT.corpora[wildcards.corpus], exclude={"annotations"}),
        folder=lambda wildcards, output: Path(output[0]).parent,
        source=lambda wildcards, input: (f"--source {input.source}" if input.get("source") else ""),
    shell:
        "python -m corpora.prepare --settings {params.settings:q} {params.source} --output {params.folder} > {log} 2>&1"


use rule prepare_corpus as prepare_evaluation_set with:
    output:
        manifest=f"{ROOT}/corpora/{{corpus}}/manifest.csv",
        speakers=f"{ROOT}/corpora/{{corpus}}/speakers.csv",
        items_table=f"{ROOT}/corpora/{{corpus}}/items.csv",
    wildcard_constraints:
        corpus=any_of(SETS),


rule annotate:
    input:
        manifest=f"{ROOT}/corpora/{{corpus}}/manifest.csv",
        source=source_of,
    output:
        intervals=f"{ROOT}/corpora/{{corpus}}/intervals.csv",
        triphones=f"{ROOT}/corpora/{{corpus}}/triphone.item",
        phonemes=f"{ROOT}/corpora/{{corpus}}/phoneme.item",
        words=f"{ROOT}/corpora/{{corpus}}/words.csv",
    log:
        f"{LOGS}/annotate/{{corpus}}.log",
    benchmark:
        f"{BENCHMARKS}/annotate/{{corpus}}.tsv"
    wildcard_constraints:
        corpus=any_of(ANNOTATED),
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        settings=lambda wildcards: settings_json(EXPERIMENT.corpora[wildcards.corpus]),
        folder=lambda wildcards, output: Path(output[0]).parent,
        source=lambda wildcards, input: (f"--source {input.source}" if input.get("source") else ""),
    shell:
        "python -m corpora.annotate --settings {params.settings:q} {params.source} --manifest {input.manifest}"
        " --output {params.folder} > {log} 2>&1"
