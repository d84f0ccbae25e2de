# Speech -> trained encoders. Checkpoints and logs lie in the undeclared folder training/, so that a
# failed or killed job, whose declared outputs snakemake deletes, resumes where it was.


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
        encoder=any_of(PRETRAINED),
    priority: 10  # everything else waits for it
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=16000,
        runtime=1440,
        gpu=1,
        cpus_per_task=8,  # audio is read and cropped ahead of the GPU
    params:
        settings=recipe_of,
        untrained=lambda wildcards: ("--untrained" if encoder_of(wildcards).untrained else ""),
        seed=EXPERIMENT.seed,
        device=device_of,
        folder=lambda wildcards, output: Path(output.config).parent,
    shell:
        "python -m spidr.train --settings {params.settings:q} --train {input.train} --validation {input.validation}"
        " {params.untrained} --seed {params.seed} --device {params.device} --output {params.folder} > {log} 2>&1"
