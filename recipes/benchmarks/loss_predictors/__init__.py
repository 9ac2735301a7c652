"""Which number, computed without training, predicts the loss after training?"""
