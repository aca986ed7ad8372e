from .evaluation_model_hook import EvaluationModelHook

__all__ = ['EvaluationModelHook']
