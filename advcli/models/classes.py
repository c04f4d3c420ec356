"""The names of Keras's classes, sorted by what loading one of them can do."""

from __future__ import annotations

import re
from collections.abc import Mapping

ALLOWED = frozenset(
    re.findall(
        r"\w+",
        """
        Sequential Functional Model InputLayer Dense EinsumDense Embedding Activation Identity
        Masking Conv1D Conv2D Conv3D Conv1DTranspose Conv2DTranspose Conv3DTranspose
        DepthwiseConv1D DepthwiseConv2D SeparableConv1D SeparableConv2D Convolution1D
        Convolution2D Convolution2DTranspose SeparableConvolution1D SeparableConvolution2D
        AtrousConvolution2D Deconvolution2D AveragePooling1D AveragePooling2D AveragePooling3D
        AvgPool1D AvgPool2D AvgPool3D MaxPooling1D MaxPooling2D MaxPooling3D MaxPool1D MaxPool2D
        MaxPool3D GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D
        GlobalAvgPool1D GlobalAvgPool2D GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D
        GlobalMaxPool1D GlobalMaxPool2D AdaptiveAveragePooling2D AdaptiveMaxPooling2D
        BatchNormalization BatchNormalizationV1 BatchNormalizationV2 SyncBatchNormalization
        LayerNormalization GroupNormalization RMSNormalization UnitNormalization
        SpectralNormalization Normalization Dropout SpatialDropout1D SpatialDropout2D
        SpatialDropout3D AlphaDropout GaussianDropout GaussianNoise ActivityRegularization
        FixedDropout Flatten Reshape Permute RepeatVector Cropping1D Cropping2D Cropping3D
        ZeroPadding1D
        ZeroPadding2D ZeroPadding3D UpSampling1D UpSampling2D UpSampling3D Add Average
        Concatenate Dot Maximum Minimum Multiply Subtract Merge ReLU LeakyReLU PReLU ELU Softmax
        ThresholdedReLU LSTM GRU SimpleRNN RNN LSTMCell GRUCell SimpleRNNCell StackedRNNCells
        ConvLSTM1D ConvLSTM2D Bidirectional TimeDistributed Attention AdditiveAttention
        MultiHeadAttention GroupQueryAttention Rescaling Resizing CenterCrop RandomFlip
        RandomRotation RandomZoom RandomTranslation RandomContrast RandomBrightness RandomCrop
        RandomHeight RandomWidth RandomShear RandomPerspective RandomSaturation RandomHue
        RandomGrayscale RandomInvert RandomErasing RandomSharpness RandomPosterization
        RandomColorJitter RandomColorDegeneration RandomGaussianBlur RandomElasticTransform
        AutoContrast Equalization Solarization AugMix RandAugment CutMix MixUp Constant
        GlorotNormal GlorotUniform HeNormal HeUniform LecunNormal LecunUniform Ones Zeros
        Orthogonal OrthogonalInitializer IdentityInitializer RandomNormal RandomUniform
        TruncatedNormal VarianceScaling L1 L2 L1L2 OrthogonalRegularizer MaxNorm MinMaxNorm
        NonNeg UnitNorm DTypePolicy Policy FloatDTypePolicy DTypePolicyMap TensorShape
        SeedGenerator __tuple__ __tensor__ __numpy__ __keras_tensor__ slice __ellipsis__
        """,
    )
)
"""Compute tensors from tensors; none takes a path, the name of a module or code."""

OPERATIONS = frozenset(
    re.findall(
        r"\w+",
        """
        Absolute Abs Divide TrueDivide Power Square Sqrt Rsqrt Exp Log Negative Mean Sum Max Min
        Clip Relu Relu6 Sigmoid LogSoftmax LogSigmoid Tanh Silu Gelu Elu Selu LeakyRelu
        HardSigmoid HardSilu Softplus Softsign GetItem Transpose ExpandDims Squeeze BroadcastTo
        Cast Stack Pad Matmul Einsum Reshape Concatenate Split Conv DepthwiseConv MaxPool
        AveragePool Normalize
        """,
    )
)
"""Operations on tensors in a functional model: Keras 3 names their module with them."""

RUNS_CODE: Mapping[str, str] = {
    "Lambda": "Python code stored in the file",
    "__lambda__": "Python code stored in the file",
    "TFOpLambda": "a TensorFlow function named in the file",
    "SlicingOpLambda": "a TensorFlow function named in the file",
    "TensorFlowOpLayer": "a TensorFlow graph stored in the file",
    "TFSMLayer": "a TensorFlow SavedModel from another path",
    "TorchModuleWrapper": "a PyTorch pickle",
    "JaxLayer": "a JAX function stored in the file",
    "FlaxLayer": "a Flax module stored in the file",
    "function": "a Python function named in the file",
}
"""Class name to what it would run."""

TEXT = frozenset(
    re.findall(
        r"\w+",
        """
        StringLookup IntegerLookup TextVectorization Hashing HashedCrossing CategoryEncoding
        Discretization IndexLookup CategoryCrossing
        """,
    )
)
"""Take words or categories; some read a vocabulary from a path."""
