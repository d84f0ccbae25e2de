# Speech -> trained encoders. Checkpoints and logs lie in the undeclared folder training/, so that a
# failed or killed job, whose declared outputs snakemake deletes, resumes where it was.

UNTRAINED = [encoder for encoder in PRETRAINED if EXPERIMENT.encoders[encoder].untrained]
TRAINED = [encoder for encoder in PRETRAINED if encoder not in UNTRAINED]
CROPPERS = 8  # CPUs a GPU: audio is read and cropped ahead of it


rule pretrain:
    input:
        train=lambda wildcards: [manifest(corpus) for corpus in encoder_of(wildcards).train],
        validation=lambda wildcards: manifest(encoder_of(wildcards).validation),
    output:
        config=f"{ROOT}/encoders/{{encoder}}/config.json",
        weights=f"{ROOT}/encoders/{{encoder}}/model.safetensors",
        teacher=f"{ROOT}/encoders/{{encoder}}/teacher.safetensors",
    log:
        f"{LOGS}/pretrain/{{encoder}}.log",
    benchmark:
        f"{BENCHMARKS}/pretrain/{{encoder}}.tsv"
    wildcard_constraints:
        encoder=any_of(TRAINED),
    priority: 10  # everything else waits for it
    localrule: LAUNCH.is_local
    conda:
        "../../envs/environment.yaml"
    resources:
        **LAUNCH.resources(EXPERIMENT.device, mem_mb=16000, cpus=CROPPERS),
        runtime=LAUNCH.minutes(1440),
    params:
        settings=recipe_of,
        seed=EXPERIMENT.seed,
        device=device_of,
        folder=lambda wildcards, output: Path(output.config).parent,
        site=lambda wildcards, resources: LAUNCH.site(resources),
    shell:
        LAUNCH.start("spidr.train", EXPERIMENT.device, CROPPERS)
        + " --settings {params.settings:q} --train {input.train:q} --validation {input.validation:q}"
        " --seed {params.seed} --device {params.device} --output {params.folder:q} > {log:q} 2>&1"


# The encoder as it is before the first step.
rule initialize:
    output:
        config=f"{ROOT}/encoders/{{encoder}}/config.json",
        weights=f"{ROOT}/encoders/{{encoder}}/model.safetensors",
        teacher=f"{ROOT}/encoders/{{encoder}}/teacher.safetensors",
    log:
        f"{LOGS}/initialize/{{encoder}}.log",
    benchmark:
        f"{BENCHMARKS}/initialize/{{encoder}}.tsv"
    wildcard_constraints:
        encoder=any_of(UNTRAINED),
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=4000,
        runtime=10,
    params:
        settings=recipe_of,
        seed=EXPERIMENT.seed,
        folder=lambda wildcards, output: Path(output.config).parent,
    shell:
        "python -m spidr.train --settings {params.settings:q} --untrained --seed {params.seed}"
        " --output {params.folder:q} > {log:q} 2>&1"
