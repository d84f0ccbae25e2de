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
    group:
        "corpora"
    conda:
        "../../envs/environment.yaml"
    threads: 2
    resources:
        mem_mb=by_attempt(2000),
        runtime=minutes(60),
    params:
        settings=lambda wildcards: settings_json(EXPERIMENT.corpora[wildcards.corpus]),
        seed=EXPERIMENT.seed,
    shell:
        "python -m corpora.synthetic --settings {params.settings:q} --seed {params.seed} --processes {threads}"
        " --output {output:q} > {log:q} 2>&1"


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
    group:
        "corpora"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=by_attempt(2000),
        runtime=minutes(240),
    params:
        settings=lambda wildcards: settings_json(EXPERIMENT.corpora[wildcards.corpus], exclude={"annotations", "texts"}),
        folder=lambda wildcards, output: Path(output[0]).parent,
        source=lambda wildcards, input: (f"--source {input.source}" if input.get("source") else ""),
    shell:
        "python -m corpora.prepare --settings {params.settings:q} {params.source} --output {params.folder:q}"
        " > {log:q} 2>&1"


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
    group:
        "corpora"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=by_attempt(4000),
        runtime=minutes(60),
    params:
        settings=lambda wildcards: settings_json(EXPERIMENT.corpora[wildcards.corpus], exclude={"texts"}),
        folder=lambda wildcards, output: Path(output[0]).parent,
        source=lambda wildcards, input: (f"--source {input.source}" if input.get("source") else ""),
    shell:
        "python -m corpora.annotate --settings {params.settings:q} {params.source} --manifest {input.manifest:q}"
        " --output {params.folder:q} > {log:q} 2>&1"


rule prepare_libriheavy:
    output:
        texts=f"{ROOT}/corpora/{{corpus}}/texts.csv",
        speakers=f"{ROOT}/corpora/{{corpus}}/speakers.csv",
    log:
        f"{LOGS}/prepare/{{corpus}}.log",
    benchmark:
        f"{BENCHMARKS}/prepare/{{corpus}}.tsv"
    wildcard_constraints:
        corpus=any_of(LIBRIHEAVY),
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=by_attempt(1000),
        runtime=minutes(240),
    params:
        settings=lambda wildcards: settings_json(EXPERIMENT.corpora[wildcards.corpus]),
        folder=lambda wildcards, output: Path(output.texts).parent,
    shell:
        "python -m corpora.libriheavy --settings {params.settings:q} --output {params.folder:q} > {log:q} 2>&1"


rule prepare_texts:
    input:
        unpack(tables_of_texts),
        manifest=f"{ROOT}/corpora/{{corpus}}/manifest.csv",
        source=source_of,
    output:
        f"{ROOT}/corpora/{{corpus}}/texts.csv",
    log:
        f"{LOGS}/prepare_texts/{{corpus}}.log",
    benchmark:
        f"{BENCHMARKS}/prepare_texts/{{corpus}}.tsv"
    wildcard_constraints:
        corpus=any_of(WRITTEN),
    group:
        "corpora"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=by_attempt(4000),
        runtime=minutes(60),
    params:
        settings=lambda wildcards: settings_json(EXPERIMENT.corpora[wildcards.corpus]),
        source=lambda wildcards, input: (f"--source {input.source}" if input.get("source") else ""),
        intervals=lambda wildcards, input: (f"--intervals {input.intervals}" if input.get("intervals") else ""),
        items_table=lambda wildcards, input: (f"--items {input.items_table}" if input.get("items_table") else ""),
    shell:
        "python -m corpora.texts --settings {params.settings:q} {params.source} --manifest {input.manifest:q}"
        " {params.intervals} {params.items_table} --output {output:q} > {log:q} 2>&1"
