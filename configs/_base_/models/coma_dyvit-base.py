"""CoMA with DyViT-B."""
_base_ = './mae_dyvit-base.py'
model = dict(type='CoMA', complement='frozen')
custom_hooks = [dict(type='EvaluationModelHook', interval=1)]  # 1: the complementary branch in every iteration
# The log has means over its window of each branch's error, as of the loss; mmengine's default is the last value.
log_processor = dict(mean_pattern=r'.*(loss|mse|target_std|time|data_time|grad_norm).*')
